// The description of the REST interface, from the server's own OpenAPI document.

const place = document.getElementById("routes");
document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
const here = location.origin;
document.getElementById("example").textContent = [
  `curl -F images=@photo.jpg ${here}/v1/predict`,
  `curl -F images=@1.png -F images=@2.png '${here}/v1/predict?model=mnist'`,
  `curl -H 'Content-Type: application/json' -d "{\\"images\\": [\\"$(base64 -w0 photo.jpg)\\"]}" ${here}/v1/predict`,
].join("\n");

const openapi = await (await fetch("openapi.json")).json();
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const section = make("section");
    section.append(make("h2", `${method.toUpperCase()} ${path}`), make("p", route.summary ?? ""));
    for (const parameter of route.parameters ?? []) {
      const { schema } = parameter;
      const choices = schema.enum ?? resolve(schema).enum;
      const kind = choices ? choices.join(" | ") : schema.type;
      const initial = schema.default === undefined ? "" : `, ${schema.default} by default`;
      section.append(entry(parameter.name, `${kind}${initial}. ${(parameter.description ?? "").replaceAll("`", "")}`));
    }
    for (const [type, { schema }] of Object.entries(route.requestBody?.content ?? {})) {
      const { images } = schema.properties;
      const count = images.maxItems === 1 ? "one picture" : `1 to ${images.maxItems} pictures`;
      section.append(entry(type, `images: ${count}, ${images.items.format === "byte" ? "base64 of the files" : "one part for each file"}`));
    }
    const failures = [];
    for (const [status, answer] of Object.entries(route.responses)) {
      if (status >= 400) failures.push(`${status} ${answer.description}`);
      else section.append(entry(status, fields(Object.values(answer.content)[0].schema)));
    }
    if (failures.length) section.append(entry("errors", failures.join(", ")));
    place.append(section);
  }
}

function fields(schema, depth = 0) {
  const resolved = resolve(schema ?? {});
  if (resolved.type === "array") return `[${fields(resolved.items, depth)}]`;
  if (!resolved.properties || depth > 1) return resolved.type ?? "";
  return `{${Object.entries(resolved.properties)
    .map(([name, inner]) => {
      const text = fields(inner.anyOf?.[0] ?? inner, depth + 1);
      return text.startsWith("{") || text.startsWith("[{") ? `${name}: ${text}` : name;
    })
    .join(", ")}}`;
}

function resolve(schema) {
  const reference = schema.$ref ?? schema.allOf?.[0]?.$ref;
  return reference ? openapi.components.schemas[reference.split("/").at(-1)] : schema;
}

function entry(name, text) {
  const line = make("p");
  line.append(make("code", name), ` ${text}`);
  return line;
}

function make(kind, text = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}
