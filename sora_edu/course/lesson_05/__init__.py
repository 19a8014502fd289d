"""What lesson 05 needs beside the package: its checks, figures, and more."""
