"""Stage 7, reporting: records -> tables, charts and text.

Takes validated records; gives data frames, plotly figures, Markdown and PDF for the notebook, the dashboard, the model
card and the command line alike. Numbers, intervals and names are formatted in one place; no streamlit, no torch.
"""
