"""What lesson 00 needs beside the package: its checks, figures, and more."""
