"""What lesson 02 needs beside the package: its checks, figures, and more."""
