"""``python -m mistral_nb``: the command line."""

import sys

from mistral_nb.cli import main

if __name__ == "__main__":
    sys.exit(main())
