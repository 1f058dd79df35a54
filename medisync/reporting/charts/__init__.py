"""Plotly figures from records, each with a title and an alternative text.

Takes records and pixels; gives a `Chart`: the dashboard draws its title as text above the figure, the notebook and
exported pictures use `Chart.titled()`. Colours, symbols and layout come from `theme`.
"""
