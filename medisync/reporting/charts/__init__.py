"""Plotly figures from records, each with a title and a description in words."""
