"""What lesson 04 needs beside the package: its checks, figures, and more."""
