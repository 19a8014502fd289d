"""What lesson 09 needs beside the package: its checks, figures, and more."""
