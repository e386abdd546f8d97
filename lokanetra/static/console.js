// Unfold's menus open at a click on what is no button. Here they become buttons: with a name, and for the keyboard too.
const NAMES = {dock_to_right: "Menu", close: "Close the menu"};

document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("#main, #page")?.setAttribute("role", "main");
    for (const part of document.querySelectorAll("[x-on\\:click]:is(span, div, a:not([href]))")) {
        const text = part.textContent.trim();
        if (!text || part.querySelector("a, button, input")) continue;
        if (text in NAMES) part.setAttribute("aria-label", NAMES[text]);
        part.setAttribute("role", "button");
        part.tabIndex = 0;
        part.addEventListener("keydown", event => {
            if (!["Enter", " "].includes(event.key)) return;
            event.preventDefault();
            part.click();
        });
    }
});

// A table that was measured before its font had come would keep the scrollbar that it needed then.
addEventListener("load", () => document.fonts.ready.then(() => {
    for (const list of document.querySelectorAll("[data-simplebar]")) SimpleBar.instances.get(list)?.recalculate();
}));
