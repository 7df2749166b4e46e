// Makes a row of buttons behave as tabs: arrows, Home and End move, and the address remembers the tab.

/** Calls `onChange(name)` for the tab that is shown, also at the start; gives a function that shows another. */
export function setUpTabs(list, onChange) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const nameOf = (tab) => tab.id.replace("tab-", "");

  function select(tab) {
    for (const other of tabs) {
      const isChosen = other === tab;
      other.setAttribute("aria-selected", String(isChosen));
      other.tabIndex = isChosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
    }
    history.replaceState(null, "", `#${nameOf(tab)}`);
    onChange(nameOf(tab));
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab);
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    if (at < 0 || !Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const tab = tabs[(steps[event.key] + tabs.length) % tabs.length];
    tab.focus();
    select(tab);
  });

  const named = (name) => tabs.find((tab) => nameOf(tab) === name);
  window.addEventListener("hashchange", () => {
    const tab = named(location.hash.slice(1));
    if (tab) select(tab);
  });
  select(named(location.hash.slice(1)) ?? tabs[0]);
  return (name) => select(named(name));
}
