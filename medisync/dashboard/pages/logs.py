"""What a run wrote to its log, to search and to take away."""

import streamlit as st

from medisync.dashboard import components, data
from medisync.reporting.tables import history_tables

run = components.require_run()
text = data.log(run)

st.title("Logs")
if not text:
    st.info("The log of this run is not in this workspace.", icon=":material/info:")
    st.stop()
level, search = st.columns([1, 3])
least = level.selectbox("Level", history_tables.LEVELS, format_func=lambda name: f"{name.capitalize()} and above")
wanted = search.text_input("Search", placeholder="a hospital, a round, a word")
lines = history_tables.log_lines(text)
shown = history_tables.log_table(lines, least, wanted)
if shown.empty:
    st.info("No line of the log is like that.", icon=":material/search_off:")
else:
    st.caption(f"{len(shown):,} of {len(lines):,} lines")
    widths = {"Time": st.column_config.TextColumn(width=170), "Level": st.column_config.TextColumn(width=90)}
    st.dataframe(shown, hide_index=True, height=520, alt="Log lines with time and level", column_config=widths)
st.download_button("Download the log", text, f"{run.name}.log", "text/plain", icon=":material/download:")
