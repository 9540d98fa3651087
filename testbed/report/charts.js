// Draws each chart in its card; a click on a name in a legend hides that layer.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts-data").textContent);
  const options = { displayModeBar: false, responsive: true, doubleClick: false };
  for (const card of document.querySelectorAll(".chart")) {
    const plot = card.querySelector(".plot");
    const { data, layout } = charts[card.id];
    Plotly.newPlot(plot, data, layout, options).then(() => {
      for (const entry of card.querySelectorAll("button[data-trace]")) {
        entry.addEventListener("click", () => {
          const isShown = entry.getAttribute("aria-pressed") === "true";
          entry.setAttribute("aria-pressed", String(!isShown));
          Plotly.restyle(plot, { visible: !isShown }, [Number(entry.dataset.trace)]);
        });
      }
      card.dataset.drawn = "yes";
    });
  }
  const widen = (width) => {
    for (const plot of document.querySelectorAll(".chart .plot")) {
      Plotly.relayout(plot, width ? { width } : { width: null, autosize: true });
    }
  };
  window.addEventListener("beforeprint", () => widen(680));
  window.addEventListener("afterprint", () => widen(null));
})();
