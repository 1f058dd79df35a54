"""What a run wrote to its log, to search and to take away."""

import streamlit as st

from medisync.dashboard import data, tables
from medisync.dashboard.pages import parts

run = parts.require_run()
text = data.log(run)

st.title("Logs")
if not text:
    st.info("The log of this run is not in this workspace.", icon=":material/info:")
    st.stop()
level, search = st.columns([1, 3])
least = level.selectbox("Level", tables.LEVELS, format_func=lambda name: f"{name.capitalize()} and above")
wanted = search.text_input("Search", placeholder="a hospital, a round, a word")
lines = tables.log_lines(text)
shown = tables.log_table(lines, least, wanted)
st.caption(f"{len(shown):,} of {len(lines):,} lines")
st.dataframe(shown, hide_index=True, height=520, alt="Log lines with time and level")
st.download_button("Download the log", text, f"{run.name}.log", "text/plain", icon=":material/download:")
