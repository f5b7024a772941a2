// A cursor over a recording: the likeliest letters of the step under it, read from the picture.
for (const figure of document.querySelectorAll("figure.recording")) {
  const labels = JSON.parse(figure.dataset.labels);
  const slider = figure.querySelector("input[type=range]");
  const shown = figure.querySelector("output");
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
    shown.textContent = `${(step * stepMs / 1000).toFixed(2)} s: ${best.join(", ")}`;
    for (const other of segments) {
      const cursor = other.querySelector(".cursor");
      cursor.style.display = other === segment ? "block" : "none";
      cursor.style.left = `${100 * (step % perSegment + 0.5) / perSegment}%`;
    }
  };

  // Playing moves the slider as time goes by, with sound where there is some.
  const button = figure.querySelector(".play");
  const audio = figure.querySelector("audio");
  let began = null;
  const stop = () => {
    began = null;
    audio.pause();
    button.textContent = "Play";
    button.setAttribute("aria-pressed", "false");
  };
  const move = () => {
    if (began === null) return;
    const step = Math.floor((performance.now() - began) / stepMs);
    if (step > Number(slider.max)) return stop();
    if (step !== Number(slider.value)) {
      slider.value = step;
      show();
    }
    requestAnimationFrame(move);
  };
  button.addEventListener("click", () => {
    if (began !== null) return stop();
    if (slider.value === slider.max) slider.value = 0;
    const from = slider.value * stepMs;
    began = performance.now() - from;
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    if (audio.src && from < 1000 * audio.duration) {
      audio.currentTime = from / 1000;
      audio.play().catch(() => {});  // the cursor moves without sound, too
    }
    move();
  });
  audio.addEventListener("playing", () => {
    if (began !== null) began = performance.now() - 1000 * audio.currentTime;
  });
  figure.querySelector("input[type=file]").addEventListener("change", event => {
    const [file] = event.target.files;
    if (!file) return;
    stop();
    audio.src = URL.createObjectURL(file);
  });

  slider.addEventListener("input", () => {
    stop();
    show();
  });
  segments.forEach((segment, index) => {
    segment.addEventListener("pointermove", event => {
      const box = segment.getBoundingClientRect();
      const at = Math.floor(perSegment * (event.clientX - box.left) / box.width);
      if (began !== null) return;
      slider.value = index * perSegment + Math.max(0, Math.min(perSegment - 1, at));
      show();
    });
  });
  figure.querySelector(".readout").hidden = false;
}
