"""Logs: the log of a run, to search and to download."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting import log_lines
from medisync.reporting.formatting import number

run = components.require_run()
text = data.log(run)

st.title("Logs")
if not text:
    st.info("The log of this run is not in this workspace.", icon=":material/info:")
    st.stop()
level, search = st.columns([1, 3])
least = level.selectbox("Level", log_lines.LEVELS, format_func=lambda name: f"{name.capitalize()} and above")
wanted = search.text_input("Search", placeholder="a hospital, a round, a word")
lines = log_lines.parse(text)
shown = log_lines.matching(lines, least, wanted)
if shown.empty:
    st.info("No matching log lines.", icon=":material/search_off:")
else:
    st.caption(f"{number(len(shown))} of {number(len(lines))} lines")
    widths = {"Time": st.column_config.TextColumn(width=170), "Level": st.column_config.TextColumn(width=90)}
    components.grid(shown, "Log lines with time and level", height=520, columns=widths)
st.download_button("Download the log", text, f"{run.name}.log", "text/plain", icon=":material/download:")
