// A scatter plot of two columns of the table below it. Points that would lie on one another share
// one mark. The table holds the same numbers for those who do not see the picture.
const plot = document.querySelector("svg.plot");
if (plot) {
  const table = document.querySelector("table.sortable");
  const headings = [...table.tHead.rows[0].cells];
  const space = { left: 64, right: 24, top: 16, bottom: 44 };
  const frontText = document.querySelector(".front");
  const axes = { x: document.querySelector("#axis-x"), y: document.querySelector("#axis-y") };
  const make = (name, attributes, parent, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const shown = value => {
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(0) : String(+value.toPrecision(3));
  };

  // The places of words are those of a list, in the order of the table's rows.
  const wordScale = (values, from, to) => {
    const words = [...new Set(values)];
    const at = word => from + (to - from) * (words.indexOf(word) + 0.5) / words.length;
    return { at, ticks: words, text: word => word };
  };

  const scale = (values, log, from, to) => {
    const usable = log && values.every(value => value > 0);
    const put = usable ? Math.log10 : value => value;
    let [low, high] = [Math.min(...values.map(put)), Math.max(...values.map(put))];
    const margin = (high - low) * 0.08 || (usable ? 0.5 : Math.abs(high) * 0.1 || 1);
    [low, high] = [low - margin, high + margin];
    const at = value => from + (to - from) * (put(value) - low) / (high - low);
    const ticks = [];
    let text = shown;
    if (usable && high - low >= 1.5) {
      const every = Math.ceil((high - low) / 7);
      for (let power = Math.ceil(low); power <= high; power += every) ticks.push(10 ** power);
    } else {
      const [first, last] = usable ? [10 ** low, 10 ** high] : [low, high];
      const rough = (last - first) / 5;
      const unit = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map(times => times * unit).find(size => size >= rough);
      // As many digits as tell two ticks apart.
      const digits = Math.min(20, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
      text = tick => digits <= 6 && Math.abs(tick) < 1e5 ? tick.toFixed(digits)
        : tick.toExponential(Math.max(0, Math.floor(Math.log10(Math.abs(tick) || step)) + digits));
      for (let tick = Math.ceil(first / step) * step; tick <= last; tick += step) ticks.push(tick);
    }
    return { at, ticks, text };
  };

  // The points that no other one is better than, from left to right; none where an axis has no
  // better end. A package that failed its gates is not among them.
  const frontOf = (points, betterX, betterY) => {
    if (!betterX || !betterY) return [];
    const cost = (value, better) => better === "low" ? value : -value;
    const costs = points.filter(point => point.row.dataset.kind !== "bad-mark")
      .map(point => ({ point, x: cost(point.x, betterX), y: cost(point.y, betterY) }));
    return costs.filter(one => !costs.some(other =>
      other.x <= one.x && other.y <= one.y && (other.x < one.x || other.y < one.y)))
      .sort((one, two) => one.point.x - two.point.x || one.y - two.y).map(each => each.point);
  };

  const draw = () => {
    const column = name => headings.findIndex(heading => heading.dataset.axis === name);
    const [x, y] = [column(axes.x.value), column(axes.y.value)];
    const kind = index => headings[index].dataset.scale;
    const typed = (index, value) => kind(index) === "words" ? value : Number(value);
    const points = [...table.tBodies]
      .map(body => body.rows[0])
      .map(row => ({ row, x: row.cells[x]?.dataset.value, y: row.cells[y]?.dataset.value }))
      .filter(point => point.x && point.y && point.row.dataset.kind)
      .map(point => ({ ...point, x: typed(x, point.x), y: typed(y, point.y) }));
    plot.replaceChildren();
    frontText.textContent = "";
    if (!points.length) {
      make("text", { x: "50%", y: "50%", "text-anchor": "middle" }, plot, "nothing to draw");
      return;
    }
    const { width, height } = plot.getBoundingClientRect();
    const laid = (index, values, from, to) => kind(index) === "words"
      ? wordScale(values, from, to) : scale(values, kind(index) === "log", from, to);
    const across = laid(x, points.map(p => p.x), space.left, width - space.right);
    const up = laid(y, points.map(p => p.y), height - space.bottom, space.top);
    for (const tick of across.ticks) {
      const at = across.at(tick);
      make("line", { x1: at, x2: at, y1: space.top, y2: height - space.bottom, class: "rule" }, plot);
      make("text", { x: at, y: height - space.bottom + 16, "text-anchor": "middle" }, plot, across.text(tick));
    }
    for (const tick of up.ticks) {
      const at = up.at(tick);
      make("line", { x1: space.left, x2: width - space.right, y1: at, y2: at, class: "rule" }, plot);
      make("text", { x: space.left - 8, y: at + 4, "text-anchor": "end" }, plot, up.text(tick));
    }
    const title = select => select.selectedOptions[0].textContent;
    make("text", { x: (space.left + width) / 2, y: height - 6, "text-anchor": "middle" }, plot, title(axes.x));
    make("text", { x: 4, y: 11 }, plot, title(axes.y));
    const front = frontOf(points, headings[x].dataset.better, headings[y].dataset.better);
    if (front.length > 1) {
      const places = front.map(point => [across.at(point.x), up.at(point.y)]);
      const path = places.map(([left, top], rank) => rank ? `H${left}V${top}` : `M${left} ${top}`);
      make("path", { d: path.join(""), class: "front-line" }, plot);
    }
    const marks = [];
    for (const point of points) {
      const [left, top] = [across.at(point.x), up.at(point.y)];
      const near = marks.find(mark => Math.hypot(mark.left - left, mark.top - top) < 12);
      if (near) near.points.push(point);
      else marks.push({ left, top, points: [point] });
    }
    const taken = marks.map(mark => ({ x: mark.left, y: mark.top + 4, half: 9 }));
    for (const mark of marks) {
      const rows = mark.points.map(point => point.row);
      const names = rows.map(row => `${row.dataset.number}: ${row.dataset.name}`);
      const link = make("a", { href: `#${rows[0].id}`, "aria-label": names.join("; ") }, plot);
      const kinds = [...new Set(rows.map(row => row.dataset.kind))];
      const size = 7 + 2 * Math.min(rows.length - 1, 4);
      if (mark.points.some(point => front.includes(point))) {
        make("circle", { cx: mark.left, cy: mark.top, r: size + 4, class: "front-ring" }, link);
      }
      kinds.forEach((kind, ring) => make("circle", {
        cx: mark.left, cy: mark.top, r: size * (1 - ring / kinds.length), class: `point ${kind}`,
      }, link));
      const text = rows.length > 4 ? `${rows.length} rows` : rows.map(row => row.dataset.number).join(", ");
      const half = 3.5 * text.length + 2;
      const places = [[14 + half, 4], [-14 - half, 4], [0, -16], [0, 24]];
      const box = ([x, y]) => ({ x: mark.left + x, y: mark.top + y, half });
      const free = place => {
        const { x, y } = box(place);
        return x + half < width && taken.every(other =>
          Math.abs(other.x - x) > other.half + half || Math.abs(other.y - y) > 13);
      };
      const place = places.find(free) ?? places[0];
      taken.push(box(place));
      make("text", {
        x: mark.left + place[0], y: mark.top + place[1], "text-anchor": "middle",
      }, link, text);
      make("title", {}, link, names.join("\n"));
      const pick = on => rows.forEach(row => row.classList.toggle("picked", on));
      for (const event of ["pointerenter", "focus"]) link.addEventListener(event, () => pick(true));
      for (const event of ["pointerleave", "blur"]) link.addEventListener(event, () => pick(false));
    }
    plot.setAttribute("aria-label", `${title(axes.y)} against ${title(axes.x)} of ${points.length} rows`);
    const numbers = front.map(point => point.row.dataset.number).join(", ");
    frontText.textContent = numbers
      ? `Front: ${numbers}. No other row is better in one of the two and as good in the other.` : "";
  };
  for (const select of Object.values(axes)) select.addEventListener("change", draw);
  addEventListener("resize", draw);
  draw();
}
