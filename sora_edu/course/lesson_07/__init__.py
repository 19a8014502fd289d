"""What lesson 07 needs beside the package: its checks, figures, and more."""
