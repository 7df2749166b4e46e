// Writes a request as a curl command and as Python: what the page sends, to be run elsewhere.

/** For POSIX shells: nothing between single quotes means anything but a single quote. */
function shellText(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A file name inside curl's -F, where ; and , would end it: curl reads \" and \\ between double quotes. */
function curlFile(name) {
  const isPlain = /^[\w@%+=:./ -]+$/.test(name);
  return isPlain ? name : `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** Python reads JSON's strings as they are. */
const pythonText = JSON.stringify;

/** `request`: {address, fields, json, fileName (null without a picture), streams, hasKey}. */
export function curlCode({ address, fields, json, fileName, streams, hasKey }) {
  const parts = [`curl ${streams ? "--no-buffer " : ""}${shellText(address)}`];
  if (hasKey) parts.push('-H "Authorization: Bearer $MOBILE_MM_KEY"');
  if (json) {
    parts.push("-H 'Content-Type: application/json'", `--data-raw ${shellText(JSON.stringify(json))}`);
  }
  if (fileName !== null) parts.push(`-F ${shellText(`image=@${curlFile(fileName)}`)}`);
  if (!json) for (const [name, value] of fields) parts.push(`--form-string ${shellText(`${name}=${value}`)}`);
  return parts.join(" \\\n  ");
}

/** For the package httpx. */
export function pythonCode({ address, fields, json, fileName, streams, hasKey }) {
  const given = [`    ${pythonText(address)},`];
  if (hasKey) given.push('    headers={"Authorization": f"Bearer {os.environ[\'MOBILE_MM_KEY\']}"},');
  if (json) given.push(`    json=${pythonText(json)},`);
  if (fileName !== null) given.push(`    files={"image": open(${pythonText(fileName)}, "rb")},`);
  const data = Object.entries(grouped(fields)).map(([name, value]) => `${pythonText(name)}: ${pythonText(value)}`);
  if (!json && data.length) given.push(`    data={${data.join(", ")}},`);
  given.push("    timeout=60,");
  const imports = hasKey ? "import os\n\nimport httpx\n\n" : "import httpx\n\n";
  if (!streams) return `${imports}response = httpx.post(\n${given.join("\n")}\n)\nprint(response.json())`;
  return (
    `${imports}with httpx.stream(\n    "POST",\n${given.join("\n")}\n) as response:\n` +
    "    for line in response.iter_lines():\n        print(line)"
  );
}

/** Fields that come several times become lists. */
function grouped(fields) {
  const all = {};
  for (const [name, value] of fields) {
    if (!Object.hasOwn(all, name)) all[name] = value;
    else all[name] = [all[name], value].flat();
  }
  return all;
}
