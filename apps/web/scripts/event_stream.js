// Reads server-sent events from the body of a fetch: EventSource can neither POST nor send a key.

/** Yields {name, data} for each event of the stream; the format is that of the HTML standard, 9.2.6. */
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "message";
  let data = [];
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return; // an event without its blank line is not complete and is dropped
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { name, data: data.join("\n") };
          name = "message";
          data = [];
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "event") name = content;
        if (field === "data") data.push(content);
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
