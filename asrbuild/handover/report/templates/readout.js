// A cursor over a recording: the likeliest letters of the step under it, read from the picture.
for (const figure of document.querySelectorAll("figure.recording")) {
  const labels = JSON.parse(figure.dataset.labels);
  const slider = figure.querySelector("input");
  const said = figure.querySelector("output");
  const segments = [...figure.querySelectorAll(".segment")];
  const perSegment = Number(figure.dataset.segment);
  const stepMs = Number(figure.dataset.stepMs);
  const pictures = new Map();

  const picture = segment => {
    if (!pictures.has(segment)) {
      const image = segment.querySelector(".heat img");
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      pictures.set(segment, context);
    }
    return pictures.get(segment);
  };

  const show = async () => {
    const step = Number(slider.value);
    const segment = segments[Math.floor(step / perSegment)];
    await segment.querySelector(".heat img").decode();
    const column = picture(segment).getImageData(step % perSegment, 0, 1, labels.length).data;
    // The picture holds the fourth root of a probability, of 255.
    const best = labels
      .map((label, row) => [label, (column[4 * row] / 255) ** 4])
      .sort((one, two) => two[1] - one[1])
      .slice(0, 4)
      .filter(([, chance], rank) => rank === 0 || chance >= 0.001)
      .map(([label, chance]) => `${label} ${(100 * chance).toPrecision(2)} %`);
    said.textContent = `${(step * stepMs / 1000).toFixed(2)} s: ${best.join(", ")}`;
    for (const other of segments) {
      const cursor = other.querySelector(".cursor");
      cursor.style.display = other === segment ? "block" : "none";
      cursor.style.left = `${100 * (step % perSegment + 0.5) / perSegment}%`;
    }
  };

  slider.addEventListener("input", show);
  segments.forEach((segment, index) => {
    segment.addEventListener("pointermove", event => {
      const box = segment.getBoundingClientRect();
      const at = Math.floor(perSegment * (event.clientX - box.left) / box.width);
      slider.value = index * perSegment + Math.max(0, Math.min(perSegment - 1, at));
      show();
    });
  });
  figure.querySelector(".readout").hidden = false;
}
