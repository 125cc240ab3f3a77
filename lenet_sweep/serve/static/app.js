// Chooses the view by the part of the URL after "#", and passes it the messages of the server.

import { CellView } from "./cell_view.js";
import { CompareView } from "./compare_view.js";
import { h } from "./dom.js";
import { ListView } from "./list_view.js";
import { SweepView } from "./sweep_view.js";

const header = document.getElementById("header");
const content = document.getElementById("content");
const lost = document.getElementById("lost");
let view = null;
let source = null;
let retry = null;

const route = () => {
  let [kind, ...names] = [""];
  try {
    [kind, ...names] = location.hash.replace(/^#\//, "").split("/").map(decodeURIComponent);
  } catch {
    kind = ""; // not a valid URL
  }
  if (kind === "sweep" && names.length === 1) return new SweepView(names[0]);
  if (kind === "sweep" && names.length === 2) return new CellView(names[0], names[1]);
  if (kind === "compare" && names.length > 1) return new CompareView([...new Set(names)].slice(0, 8));
  return new ListView();
};

const show = () => {
  if (location.hash && !location.hash.startsWith("#/")) return; // a link within the page
  view?.unmount();
  view = route();
  header.replaceChildren();
  content.replaceChildren(h("p", { class: "aside" }, "Loading ..."));
  view.mount(header, content);
  connect();
  window.scrollTo(0, 0);
};

const connect = () => {
  source?.close();
  clearTimeout(retry);
  source = null;
  if (document.hidden) return; // browsers allow six connections to a server, for all tabs together
  const query = view.streams.map((name) => `sweep=${encodeURIComponent(name)}`).join("&");
  const opened = new EventSource(`events${query ? `?${query}` : ""}`);
  source = opened;
  const receive = (event) => {
    lost.hidden = true;
    if (source === opened) view.receive(JSON.parse(event.data));
  };
  for (const kind of ["sweeps", "snapshot", "update"]) opened.addEventListener(kind, receive);
  opened.addEventListener("open", () => { lost.hidden = true; });
  opened.addEventListener("error", () => {
    if (source !== opened) return;
    opened.close();
    fail();
  });
};

// The server has ended, or it is another one, which has printed another URL.
const fail = async () => {
  lost.hidden = false;
  try {
    const answer = await fetch("dom.js", { cache: "no-store" });
    lost.textContent = answer.ok
      ? "The connection was lost. Reconnecting ..."
      : "The server was restarted. Open the URL that it printed.";
  } catch {
    lost.textContent = "The server has stopped, so this page is no longer updated. To continue, run python -m lenet_sweep.serve and open the URL that it prints.";
  }
  clearTimeout(retry);
  retry = setTimeout(connect, 2000);
};

window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connect();
  else {
    source?.close();
    source = null;
    clearTimeout(retry);
  }
});
show();
