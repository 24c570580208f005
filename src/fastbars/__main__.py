"""`python -m fastbars`: the command."""

import sys

from fastbars.cli import main

sys.exit(main())
