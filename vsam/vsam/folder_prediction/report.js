"use strict";
// Text from outside is set as text alone, never as HTML.
const photos = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const [controls, cards, told, large] = ["controls", "cards", "told", "large"].map(at);
const STEP = 120; // cards that are made at once; the others when the page is scrolled to its end
let found = [], made = 0, open = 0;

function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

const two = (score) => score.toFixed(2);

function pictures(photo) {
  const made = [[photo.photo, "Photo " + photo.id, ""], [photo.heat, "", "heat"]];
  return made.filter(([source]) => source).map(([source, alt, name]) => {
    const picture = make("img", name);
    picture.alt = alt;
    picture.src = source;
    return picture;
  });
}

function chips(attributes, withRegions) {
  return make("div", "chips", ...attributes.map(([label, score, region]) =>
    make("span", "chip", label, make("b", "", two(score) + (withRegions && region ? " · " + region : "")))));
}

function card(photo, position) {
  const id = make("bdi", "id", photo.id);
  if (photo.error !== undefined) {
    return make("li", "card", make("div", "picture none", photo.error), make("div", "facts", id));
  }
  const button = make("button", "picture", ...pictures(photo));
  button.type = "button";
  button.setAttribute("aria-label", `${photo.id}: ${photo.category}, show larger`);
  button.addEventListener("click", () => show(position));
  const category = make("div", "category", make("span", "", photo.category), make("span", "", two(photo.score)));
  return make("li", "card", button, make("div", "facts", category, chips(photo.attributes), id));
}

function more() {
  const until = Math.min(made + STEP, found.length);
  const fresh = document.createDocumentFragment();
  for (; made < until; made++) fresh.append(card(found[made], made));
  cards.append(fresh);
}

const orders = {
  id: (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
  low: (a, b) => (a.score ?? 2) - (b.score ?? 2),
  high: (a, b) => (b.score ?? -1) - (a.score ?? -1),
  category: (a, b) => (a.category ?? "\uffff").localeCompare(b.category ?? "\uffff"),
  many: (a, b) => (b.attributes?.length ?? -1) - (a.attributes?.length ?? -1),
};

function matches(photo, wanted) {
  const failed = photo.error !== undefined;
  if (wanted.kind && failed !== (wanted.kind === "errors")) return false;
  if (wanted.text && !photo.searched.includes(wanted.text)) return false;
  // Of a photo that could not be read there is nothing to compare.
  if (failed) return !wanted.category && !wanted.attribute;
  return (!wanted.category || photo.category === wanted.category) &&
    (!wanted.attribute || photo.attributes.some(([label]) => label === wanted.attribute)) &&
    photo.score >= wanted.least && photo.score <= wanted.most;
}

function update() {
  const wanted = {
    text: at("text").value.trim().toLowerCase(), category: at("category").value,
    attribute: at("attribute").value, kind: at("kind").value,
    least: Number(at("least").value), most: Number(at("most").value),
  };
  at("least-told").textContent = wanted.least;
  at("most-told").textContent = wanted.most;
  if (at("heat")) {
    at("heat-told").textContent = at("heat").value + " %";
    document.documentElement.style.setProperty("--heat", at("heat").value / 100);
  }
  found = photos.filter((photo) => matches(photo, wanted)).sort(orders[at("order").value]);
  for (const bar of document.querySelectorAll("button.bar")) {
    const { category, attribute } = bar.dataset;
    const pressed = category === undefined ? attribute === wanted.attribute : category === wanted.category;
    bar.setAttribute("aria-pressed", pressed);
  }
  told.textContent = `${found.length} of ${photos.length} shown here`;
  cards.replaceChildren();
  made = 0;
  more();
}

function fill(select, labels) {
  const counts = new Map();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  for (const [label, count] of [...counts].sort((a, b) => a[0].localeCompare(b[0]))) {
    const option = make("option", "", `${label} (${count})`);
    option.value = label;
    select.append(option);
  }
}

// A photo on its own

function show(position) {
  open = position;
  const photo = found[position];
  at("large-picture").className = photo.error === undefined ? "picture" : "picture none";
  at("large-picture").replaceChildren(...(photo.error === undefined ? pictures(photo) : [photo.error]));
  const facts = [make("bdi", "id", photo.id)];
  if (photo.error === undefined) {
    facts.push(make("h3", "", "Categories"), chips(photo.categories), make("h3", "", "Attributes"),
      photo.attributes.length ? chips(photo.attributes, true) : make("p", "soft", "None above their threshold."));
  }
  at("large-facts").replaceChildren(...facts);
  at("previous").disabled = position === 0;
  at("next").disabled = position === found.length - 1;
  if (!large.open) large.showModal();
}

const step = (by) => { if (found[open + by]) show(open + by); };
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
at("close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});

for (const photo of photos) {
  const labels = photo.error === undefined ? [photo.category, ...photo.attributes.map(([label]) => label)] : [photo.error];
  photo.searched = [photo.id, ...labels].join("\n").toLowerCase();
}
const tagged = photos.filter((photo) => photo.error === undefined);
fill(at("category"), tagged.map((photo) => photo.category));
fill(at("attribute"), tagged.flatMap((photo) => photo.attributes.map(([label]) => label)));
if (!tagged.length) at("kind").value = "";
for (const bar of document.querySelectorAll("button.bar")) {
  bar.addEventListener("click", () => {
    const select = at(bar.dataset.category === undefined ? "attribute" : "category");
    const label = bar.dataset.category ?? bar.dataset.attribute;
    if (![...select.options].some((option) => option.value === label)) {
      const option = make("option", "", `${label} (0)`); // none of them is on the sheet
      option.value = label;
      select.append(option);
    }
    select.value = select.value === label ? "" : label;
    update();
    at("sheet").scrollIntoView();
  });
}
controls.addEventListener("input", update);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("reset", () => setTimeout(update));
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) more(); }, { rootMargin: "800px" })
  .observe(document.querySelector("footer"));
controls.hidden = false;
update();
