"""What lesson 08 needs beside the package: its checks, figures, and more."""
