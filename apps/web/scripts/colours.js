// Switches between the system's colours, light and dark.

const ORDER = ["auto", "light", "dark"];
const SAID = { auto: "as the system", light: "light", dark: "dark" };

/** Makes `button` step through the three; the choice outlives the page where storage is allowed. */
export function setUpColours(button) {
  let current = document.documentElement.dataset.colours ?? "auto";

  function show() {
    if (current === "auto") delete document.documentElement.dataset.colours;
    else document.documentElement.dataset.colours = current;
    button.querySelector("use").setAttribute("href", `#icon-${current}`);
    button.setAttribute("aria-label", `Colours: ${SAID[current]}`);
    button.title = `Colours: ${SAID[current]}`;
  }

  button.addEventListener("click", () => {
    current = ORDER[(ORDER.indexOf(current) + 1) % ORDER.length];
    try {
      if (current === "auto") localStorage.removeItem("mobile-mm-colours");
      else localStorage.setItem("mobile-mm-colours", current);
    } catch {
      // Storage is blocked: the choice holds until the page is left.
    }
    show();
  });
  show();
}
