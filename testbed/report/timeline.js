// Draws the figure; shows the values at the pointer in the legends of all rows; drag zooms all rows in time.
(() => {
  "use strict";
  const source = document.getElementById("timeline-data");
  if (!source) return;
  const { figure, readouts } = JSON.parse(source.textContent);
  const frame = document.getElementById("timeline");
  const plot = document.getElementById("timeline-plot");
  const cursor = document.getElementById("timeline-cursor");
  const badge = document.getElementById("timeline-time");
  const reset = document.getElementById("timeline-reset");
  const entries = [...frame.querySelectorAll("button[data-trace]")];
  const margin = figure.layout.margin;
  const whole = figure.layout.xaxis.range.slice();
  // A finger scrolls the page and taps to read values; a mouse drags to zoom.
  const isTouch = window.matchMedia("(pointer: coarse)").matches;
  const options = { displayModeBar: false, responsive: true, staticPlot: isTouch, doubleClick: false };

  const instantOf = (edge) =>
    typeof edge === "number" ? edge : Date.parse(edge.length > 10 ? edge.replace(" ", "T") + "Z" : edge + "T00:00Z");
  const shownRange = () => plot.layout.xaxis.range.map(instantOf);

  function clock(milliseconds, isFine) {
    const seconds = Math.floor(milliseconds / 1000);
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    const tenths = isFine ? "." + Math.floor((milliseconds % 1000) / 100) : "";
    const rest = two(seconds % 60) + tenths;
    if (hours === 0) return `${minutes}:${rest}`;
    if (hours < 24) return `${hours}:${two(minutes)}:${rest}`;
    return `day ${Math.floor(hours / 24) + 1}, ${hours % 24}:${two(minutes)}`;
  }

  const write = {
    rate: (value) => `${Number(value.toPrecision(3))}/s`,
    count: (value) => String(Number(value.toPrecision(3))),
    fraction: (value) => `${Number((value * 100).toPrecision(3))} %`,
    seconds: (value) =>
      value < 1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${Number(value.toPrecision(3))} s`,
  };

  // Number of the last point at or before an instant; -1 = none.
  function lastBefore(instants, instant) {
    let [low, high] = [0, instants.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (instants[middle] <= instant) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  function valueAt(trace, readout, instant) {
    const { x, y } = figure.data[trace];
    let index = lastBefore(x, instant);
    if (readout.find === "nearest" && index + 1 < x.length) {
      if (index < 0 || x[index + 1] - instant < instant - x[index]) index += 1;
      if (readout.within_ms && Math.abs(x[index] - instant) > readout.within_ms) return null;
    }
    return index < 0 ? null : y[index];
  }

  function showAt(pixels) {
    const width = plot.clientWidth - margin.l - margin.r;
    const share = (pixels - margin.l) / width;
    if (share < 0 || share > 1) return hide();
    const [start, end] = shownRange();
    const instant = start + share * (end - start);
    cursor.style.left = `${pixels}px`;
    badge.style.left = `${Math.min(Math.max(pixels, margin.l + 24), plot.clientWidth - 30)}px`;
    badge.textContent = clock(instant - whole[0], end - start < 30000);
    frame.classList.add("is-reading");
    for (const entry of entries) {
      const trace = Number(entry.dataset.trace);
      const value = valueAt(trace, readouts[trace], instant);
      entry.querySelector(".value").textContent =
        value === null || value === undefined ? "–" : write[readouts[trace].unit](value);
    }
  }

  function hide() {
    frame.classList.remove("is-reading");
    for (const entry of entries) entry.querySelector(".value").textContent = "";
  }

  function zoomTo(range) {
    return Plotly.relayout(plot, { "xaxis.range": range });
  }

  Plotly.newPlot(plot, figure.data, figure.layout, options).then(() => {
    plot.on("plotly_relayout", () => {
      const [start, end] = shownRange();
      reset.hidden = start <= whole[0] && end >= whole[1];
    });
    plot.on("plotly_doubleclick", () => zoomTo(whole.slice()));
    reset.addEventListener("click", () => zoomTo(whole.slice()));
    frame.addEventListener("pointermove", (event) => showAt(event.clientX - plot.getBoundingClientRect().left));
    frame.addEventListener("pointerdown", (event) => showAt(event.clientX - plot.getBoundingClientRect().left));
    // A finger leaves at the end of each tap; what it read stays.
    frame.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    for (const entry of entries) {
      entry.addEventListener("click", () => {
        const isShown = entry.getAttribute("aria-pressed") === "true";
        entry.setAttribute("aria-pressed", String(!isShown));
        Plotly.restyle(plot, { visible: !isShown }, [Number(entry.dataset.trace)]);
      });
    }
    window.addEventListener("beforeprint", () => Plotly.relayout(plot, { width: 1150 }));
    window.addEventListener("afterprint", () => Plotly.relayout(plot, { width: null, autosize: true }));
    frame.dataset.drawn = "yes";
  });
})();
