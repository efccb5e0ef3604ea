"""The page ``results/report/index.html``: every number of the studies, each a link to the trail behind it."""
