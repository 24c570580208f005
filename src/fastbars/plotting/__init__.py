"""Pictures of bars: colours that the page and pictures share, and candles as SVG."""
