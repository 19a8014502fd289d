"""What lesson 03 needs beside the package: its checks, figures, and more."""
