"""The rules for series: what the shipped ones make of descriptions from scanners, and what a file of rules must be."""

from pathlib import Path

import pytest

from medisync.errors import ConfigError
from medisync.ingest import rules
from medisync.ingest.rules import Traits

SHORT, LONG, INVERTED = (12, 550, None), (95, 4000, None), (120, 9000, 2500)
"""Echo, repetition and inversion time in milliseconds: spin echo T1, T2, FLAIR."""


def judge(
    text: str, times: tuple[float | None, ...], agent: str = "", types: tuple[str, ...] = (), body_part: str = ""
) -> str:
    traits = Traits(text.replace("_", " "), frozenset(types), body_part, agent, *times)
    found = rules.read()
    return found.why_excluded(traits) or found.sequence_of(traits)


@pytest.mark.parametrize(
    ("text", "times", "expected"),
    [
        ("t1_se_tra", SHORT, "t1"),
        ("t1_se_tra_KM", SHORT, "t1c"),
        ("AX T1 FSE +C", SHORT, "t1c"),
        ("Ax T1 POST GAD", SHORT, "t1c"),
        ("T1W_SE PRE", SHORT, "t1"),
        ("T1 w/o contrast", SHORT, "t1"),
        ("sT1W_3D_TFE_Gd", (4, 8, None), "t1c"),
        ("t1_mprage_sag_p2_iso", (2.3, 2000, 900), "t1"),
        ("AX T1 FLAIR", (10, 2000, 800), "t1"),
        ("t2_tse_tra", LONG, "t2"),
        ("T2W_TSE", LONG, "t2"),
        ("PD/T2", LONG, "t2"),
        ("PD/T2", (20, 4000, None), "proton density"),
        ("Ax T2 FLAIR", INVERTED, "flair"),
        ("t2_tirm_tra_dark-fluid", INVERTED, "flair"),
        ("", SHORT, "t1"),
        ("", LONG, "t2"),
        ("", INVERTED, "flair"),
        ("research", (None, None, None), ""),
        ("t2_tse_tra", (None, 4000, None), ""),
        ("3-plane loc", SHORT, "localizer"),
        ("Survey", SHORT, "localizer"),
        ("ep2d_diff_3scan_trace_p2_ADC", LONG, "diffusion, perfusion or function"),
        ("TOF_3D", SHORT, "angiography or susceptibility"),
        ("T2*_GRE", (20, 700, None), "angiography or susceptibility"),
        ("t2_tse_sag C-SPINE", LONG, "another part of the body"),
        ("T1 post - pre SUBTRACTION", SHORT, "spectroscopy, map or subtraction"),
    ],
)
def test_descriptions_as_scanners_write_them(text: str, times: tuple[float | None, ...], expected: str) -> None:
    assert judge(text, times) == expected


def test_a_contrast_agent_tells_unless_the_description_says_otherwise() -> None:
    assert judge("AX T1", SHORT, agent="Gadobutrol") == "t1c"
    assert judge("AX T1", SHORT, agent="NONE") == "t1"
    assert judge("AX T1 PRE", SHORT, agent="Gadobutrol") == "t1"


def test_types_and_parts_of_the_body_exclude() -> None:
    assert judge("t2_tse", LONG, types=("DERIVED", "PRIMARY", "ADC")) == "diffusion, perfusion or function"
    assert judge("t2_tse", LONG, types=("ORIGINAL", "PRIMARY", "M", "ND")) == "t2"
    assert judge("t2_tse", LONG, body_part="KNEE") == "another part of the body"
    assert judge("t2_tse", LONG, body_part="BRAIN") == "t2"


HEAD = "contrast_text = 'post'\nno_contrast_text = 'pre'\nno_contrast_agent = 'none'\n"


def test_a_file_of_rules_replaces_those_that_come_with_the_program(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(f"{HEAD}[[sequence]]\nname = 'pd'\ntext = 'proton'\n")
    traits = Traits("Proton density", frozenset(), "", "", None, None, None)
    found = rules.read(file)
    assert (found.why_excluded(traits), found.sequence_of(traits)) == ("", "pd")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD, "sequence: Field required"),
        (f"{HEAD}[[sequence]]\nname = 't1'\n", "sequence.0: has no condition"),
        (f"{HEAD}[[sequence]]\nname = 'T 1'\ntext = 'x'\n", "sequence.0.name"),
        (f"{HEAD}[[sequence]]\nname = 't1'\ntext = '('\n", "sequence.0.text: is no regular expression"),
        (f"{HEAD}[[sequence]]\nname = 't1'\nsubject = 'x'\n", "sequence.0.subject"),
        (f"{HEAD}[[sequence]]\nname = 't1'\necho_time = [30, 1]\n", r"echo_time: expected \[least, most\]"),
        ("[[sequence]", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_rules_is_named_by_its_field(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        rules.read(tmp_path / "rules.toml")
