// Copies text, and says on the button that it did.

/** Makes `button` copy what `textOf()` gives; `announce` tells those who do not see the button. */
export function setUpCopy(button, textOf, announce) {
  const label = button.querySelector("span") ?? button.lastChild;
  let timer = 0;
  let before = "";
  button.addEventListener("click", async () => {
    const copied = await copy(textOf());
    if (!timer) before = label.textContent;
    clearTimeout(timer);
    label.textContent = copied ? "Copied" : "Select and copy it";
    announce(copied ? "Copied" : "This browser does not let the page copy: select the text and copy it");
    timer = setTimeout(() => {
      label.textContent = before;
      timer = 0;
    }, 1500);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text); // on https and localhost
    return true;
  } catch {
    return copiedThroughField(text);
  }
}

function copiedThroughField(text) {
  const field = document.createElement("textarea");
  const focused = document.activeElement;
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy"); // deprecated, and the only way on plain http to another machine
  field.remove();
  focused?.focus();
  return copied;
}
