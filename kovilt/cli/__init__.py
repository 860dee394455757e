"""What the command-line tools share: the argument parser, progress bars, the check of the installed packages."""
