"""What the page does in the browser."""

from __future__ import annotations

__all__ = ["COPY_LINK", "ON_LOAD", "READ_LINK", "SAVE_FILE", "SHOW_OUTPUT", "TOGGLE_THEME"]

READ_LINK = "() => location.hash"

# Browsers offer the clipboard only to pages from this machine or over HTTPS, and may refuse it. The
# notice says that the address was copied where it was.
COPY_LINK = """
async (fragment) => {
    if (!fragment) return;
    history.replaceState(null, "", fragment);
    const copied = navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    document.querySelector("#message").toggleAttribute("data-copied", Boolean(await copied));
}
"""

# On a phone the results are below the inputs.
SHOW_OUTPUT = """
() => {
    const output = document.querySelector(".output");
    const failed = document.querySelector("#message .message");
    if (!failed && output.getBoundingClientRect().top > innerHeight / 2) output.scrollIntoView();
}
"""

SAVE_FILE = """
(text) => {
    if (!text) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "ranking.json";
    link.click();
    URL.revokeObjectURL(link.href);
}
"""

_THEME_KEY = "qwen3-reranker-theme"

TOGGLE_THEME = f"""
() => {{
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("{_THEME_KEY}", dark ? "dark" : "light");
}}
"""

# A link that is opened in the same tab changes only the end of the address.
ON_LOAD = f"""
() => {{
    const theme = localStorage.getItem("{_THEME_KEY}");
    if (theme) document.body.classList.toggle("dark", theme === "dark");
    window.addEventListener("hashchange", () => location.reload());
}}
"""
