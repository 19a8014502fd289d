"""What lesson 06 needs beside the package: its checks, figures, and more."""
