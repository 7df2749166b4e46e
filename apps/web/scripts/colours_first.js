// Sets the chosen colours before anything is painted: as a module it would come too late and the page would flash.
(() => {
  try {
    const chosen = localStorage.getItem("mobile-mm-colours");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.colours = chosen;
  } catch {
    // Storage is blocked: the system's colours hold.
  }
})();
