"""The compiled kernel: trades in, rows of bars out. `fastbars._agg.BarKernel` is its one door."""
