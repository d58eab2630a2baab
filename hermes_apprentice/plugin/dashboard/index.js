/* The Apprentice tab of Hermes' dashboard: shows the sidecar's own page.
 *
 * The page comes whole from the sidecar, through Hermes' server. It is shown in a frame in
 * which no script can run, so nothing that it says can act on Hermes.
 */
(function () {
  "use strict";

  const sdk = window.__HERMES_PLUGIN_SDK__;
  const plugins = window.__HERMES_PLUGINS__;
  if (!sdk || !plugins) return;

  const element = sdk.React.createElement;
  const { useEffect, useRef, useState } = sdk.hooks;
  const EVERY_MS = 30000;

  /* Hermes' themes are its own, whatever the system prefers: light letters mean a dark theme. */
  function themeOf(node) {
    const context = document.createElement("canvas").getContext("2d");
    if (!context) return "dark";
    context.fillStyle = getComputedStyle(node).color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return 0.299 * red + 0.587 * green + 0.114 * blue > 127 ? "dark" : "light";
  }

  function Apprentice() {
    const frame = useRef(null);
    const place = useRef(null);
    const [first, setFirst] = useState("");
    const [problem, setProblem] = useState("");
    const [height, setHeight] = useState(600);

    useEffect(function () {
      let over = false;

      function show(html) {
        const inside = frame.current && frame.current.contentDocument;
        const shown = inside && inside.querySelector("style");
        const next = new DOMParser().parseFromString(html, "text/html");
        const style = next.querySelector("style");
        if (shown && style && shown.textContent === style.textContent) {
          /* In place, so that nothing flickers and nobody loses their place. */
          inside.body.replaceChildren(...inside.importNode(next.body, true).childNodes);
        } else {
          setFirst(html);
        }
      }

      async function refresh() {
        if (document.hidden) return;
        try {
          const answer = await sdk.fetchJSON("/api/plugins/apprentice/page");
          if (over) return;
          setProblem(answer.problem || "");
          if (answer.html) show(answer.html);
        } catch (error) {
          if (!over) setProblem("Hermes did not answer: " + error.message);
        }
      }

      refresh();
      const timer = setInterval(refresh, EVERY_MS);
      document.addEventListener("visibilitychange", refresh);
      return function () {
        over = true;
        clearInterval(timer);
        document.removeEventListener("visibilitychange", refresh);
      };
    }, []);

    function fit() {
      const inside = frame.current.contentDocument;
      inside.documentElement.dataset.theme = themeOf(place.current);
      new ResizeObserver(function () {
        setHeight(Math.ceil(inside.body.getBoundingClientRect().height) + 1);
      }).observe(inside.body);
    }

    return element(
      "div",
      { ref: place },
      problem ? element("p", { role: "alert", style: { margin: "1rem" } }, problem) : null,
      first
        ? element("iframe", {
            ref: frame,
            title: "Apprentice",
            sandbox: "allow-same-origin",
            srcDoc: first,
            onLoad: fit,
            style: {
              display: "block",
              width: "100%",
              height: height + "px",
              border: 0,
              colorScheme: "normal", /* the same as the page's own, so that it is transparent */
            },
          })
        : problem
          ? null
          : element("p", { style: { margin: "1rem" } }, "Asking the sidecar\u2026"),
    );
  }

  plugins.register("apprentice", Apprentice);
})();
