// Tables whose headings are buttons: a click sorts, a second click turns the order round. Cells
// without a value stay at the end either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numbers = heading.classList.contains("n");
      // A body is a row, and perhaps a second one that belongs to it.
      const value = body => body.rows[0].cells[column].dataset.value ?? "";
      const bodies = [...table.tBodies].sort((one, two) => {
        const [left, right] = [value(one), value(two)];
        if (left === "" || right === "") return (left === "") - (right === "");
        const order = numbers ? left - right : left.localeCompare(right, "en", { numeric: true });
        return down ? -order : order;
      });
      table.append(...bodies);
    });
  });
}
