"""Style sheet and theme of the page."""

import gradio as gr

CSS = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto !important; padding: 0 !important; }
.gradio-container .main.fillable { max-width: 100% !important; padding: 20px clamp(12px, 2vw, 24px) !important; }
[role="tab"][aria-selected="true"] { color: var(--primary-700) !important; }
.dark [role="tab"][aria-selected="true"] { color: var(--primary-300) !important; }
.gradio-container footer { gap: 20px; }
.gradio-container footer .divider { display: none !important; }
#head h1 { font-size: 2.1rem; margin: .2rem 0; letter-spacing: -.02em; }
#head p { color: var(--body-text-color-subdued); margin: 0 0 .4rem; max-width: 60rem; font-size: 1.02rem; }
#answer .output-class { padding: 26px 12px 18px; overflow-wrap: anywhere; }
#answer .confidence-set { font-family: var(--font); font-size: 1rem; margin-bottom: 12px; }
#answer .bar { height: 8px !important; margin-bottom: 6px; min-width: 2px; }
#answer .line { border: none !important; }
#answer .confidence { font-variant-numeric: tabular-nums; font-weight: 600; }
#photo .image-frame img, #heat img { width: 100%; height: 100%; object-fit: contain; }
#columns .prompts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.prompt { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 14px;
  background: var(--background-fill-primary); min-width: 0; }
.prompt h3 { margin: 0 0 10px; font-size: .95rem; overflow-wrap: anywhere; }
.prompt h3 small { display: block; font-weight: 400; color: var(--body-text-color-subdued); }
.prompt ol { list-style: none; margin: 0; padding: 0; }
.prompt li { display: grid; grid-template-columns: 1fr auto; gap: 2px 8px; margin: 0 0 9px; font-size: .9rem; }
.prompt li span { overflow-wrap: anywhere; }
.prompt li b { font-variant-numeric: tabular-nums; }
.prompt li i { grid-column: 1 / -1; height: 6px; border-radius: 3px; background: var(--stat-background-fill);
  min-width: 2px; }
.note p { color: var(--body-text-color-subdued); font-size: .92rem; }
#results .grid-wrap { height: auto; max-height: none; }
#results .caption-label { font-size: .75rem; padding: 1px 6px; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 2px; }
#examples .gallery:not(.container) { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; }
#examples .gallery.container { width: 100%; max-width: 100%; height: auto; aspect-ratio: 1; }
@media (max-width: 640px) {
  #head h1 { font-size: 1.6rem; }
  #photo { height: 300px !important; }
}
"""

THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],  # system fonts, so that nothing is downloaded
    font_mono=["ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_50",
    block_border_width="1px",
    block_border_color="*neutral_200",
    block_shadow="none",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_padding="0",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    block_label_background_fill="white",
    block_label_background_fill_dark="*neutral_900",
    block_label_text_color="*neutral_800",
    block_label_text_color_dark="*neutral_100",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_600",
    input_background_fill_dark="*neutral_900",
    stat_background_fill="*primary_600",
    stat_background_fill_dark="*primary_400",
    # These colours have WCAG AA contrast for text on teal and for small text.
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
)
