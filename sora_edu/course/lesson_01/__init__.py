"""What lesson 01 needs beside the package: its checks, figures, and more."""
