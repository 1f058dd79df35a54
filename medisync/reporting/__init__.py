"""Stage 7, reporting: records -> tables, charts and text.

Takes validated records; gives data frames, plotly figures, Markdown and PDF for the notebook, the dashboard, the model
card and the command line. `formatting` is the only module that formats numbers and names. No streamlit, no torch.
"""
