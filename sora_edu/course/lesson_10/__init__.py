"""What lesson 10 needs beside the package: its checks, figures, and more."""
