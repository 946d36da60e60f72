// The page: a treemap of the files that are seen, a table of the layers, and what is wasted. The data stand in the page
// as JSON (with '<', '>' and '&' escaped) and are put into it as text.
#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "inside/layers_report.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace cooper::inside {

namespace {

// What a browser draws without thinking, and nobody could see smaller.
constexpr std::size_t kMaxNodes = 6000;

constexpr std::string_view kHead = R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Layers</title>
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --dim: #5d636b; --line: #d7dade; --bar: #b3541e; --cell-l: 82%; --cell-s: 55%; }
@media (prefers-color-scheme: dark) { :root { --paper: #17191c; --ink: #e6e7e9; --dim: #a0a6ad; --line: #383c42; --bar: #f0955c; --cell-l: 27%; --cell-s: 38%; } }
body { margin: 0 auto; max-width: 1200px; padding: 1.2rem; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .2rem 0; color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.code { font-family: ui-monospace, monospace; font-size: .86em; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
#crumbs button { font: inherit; color: inherit; background: none; border: 0; padding: 0 .1em; cursor: pointer; text-decoration: underline; }
#map { position: relative; height: 560px; border: 1px solid var(--line); overflow: hidden; }
#map div { position: absolute; box-sizing: border-box; overflow: hidden; border: 1px solid var(--paper); font-size: 11px; line-height: 14px; padding: 0 2px; white-space: nowrap; text-overflow: ellipsis; }
#map div.inner { cursor: zoom-in; }
#map div:focus-visible { outline: 2px solid var(--ink); outline-offset: -2px; }
#hint { min-height: 1.5em; }
</style>
</head>
<body>
<h1 id="name"></h1>
<p id="sum"></p>
<h2>Files</h2>
<p id="crumbs"></p>
<div id="map" role="figure" aria-label="Treemap of the files of the image"></div>
<p id="hint" class="code"></p>
<h2>Layers</h2>
<table><thead><tr><th class="number">#</th><th class="number">Size</th><th class="number">Packed</th><th class="number">Wasted</th><th class="number">Files</th><th>Instruction</th></tr></thead><tbody id="layers"></tbody></table>
<h2>Stored, and not seen</h2>
<table><tbody id="waste"></tbody></table>
<h2>Largest files</h2>
<table><tbody id="largest"></tbody></table>
<script type="application/json" id="data">)html";

constexpr std::string_view kTail = R"html(</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const report = data.report;
const $ = (id) => document.getElementById(id);
const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; ++unit; }
  return (unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)) + units[unit];
};
const hue = (layer) => (layer * 137.5 + 205) % 360;
const color = (layer) => `hsl(${hue(layer)} var(--cell-s) var(--cell-l))`;
const row = (table, cells) => {
  const tr = document.createElement("tr");
  for (const [text, style, layer] of cells) {
    const td = document.createElement("td");
    td.className = style;
    if (layer !== undefined) {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = color(layer);
      td.append(swatch);
    }
    td.append(text);
    tr.append(td);
  }
  $(table).append(tr);
};
document.title = "Layers of " + report.image;
$("name").textContent = report.image;
const share = report.stored_bytes > 0 ? (100 * report.wasted_bytes / report.stored_bytes).toFixed(1) : "0";
$("sum").textContent = `${report.platform} · ${size(report.stored_bytes)} in ${report.layers.length} layers · ` +
  `${report.seen_files} files are seen, ${size(report.seen_bytes)} · ${size(report.wasted_bytes)} (${share}%) wasted`;
for (const layer of report.layers) {
  row("layers", [[layer.number, "number"], [size(layer.bytes), "number"],
    [layer.packed_bytes === null ? "–" : size(layer.packed_bytes), "number"],
    [layer.wasted_bytes ? size(layer.wasted_bytes) : "–", "number"], [layer.files, "number"],
    [layer.instruction || "(not told)", "code", layer.number]]);
}
for (const waste of report.waste) {
  row("waste", [[size(waste.bytes), "number"], [waste.path, "code"],
    [`${waste.why} by layer ${waste.hidden_by}; stored in ${waste.stored_in.join(", ")}`, ""]]);
}
if (report.waste.length === 0) row("waste", [["Nothing.", ""]]);
for (const file of report.largest) row("largest", [[size(file.bytes), "number"], [file.path, "code"], [`layer ${file.layer}`, "", file.layer]]);

// Nodes are [name, bytes, layer, children]; a squarified treemap of two levels at a time.
const worst = (line, total, side) => {
  let largest = 0, smallest = Infinity, sum = 0;
  for (const area of line) { largest = Math.max(largest, area); smallest = Math.min(smallest, area); sum += area; }
  return Math.max(side * side * largest / (sum * sum), sum * sum / (side * side * smallest));
};
const place = (nodes, box, visit) => {
  const total = nodes.reduce((sum, node) => sum + node[1], 0);
  if (total === 0 || box.w < 2 || box.h < 2) return;
  const scale = box.w * box.h / total;
  let rest = nodes.slice().sort((a, b) => b[1] - a[1]);
  let { x, y, w, h } = box;
  while (rest.length > 0) {
    const side = Math.min(w, h);
    let line = [rest[0][1] * scale], count = 1;
    while (count < rest.length && worst([...line, rest[count][1] * scale], total, side) <= worst(line, total, side)) {
      line.push(rest[count++][1] * scale);
    }
    const sum = line.reduce((a, b) => a + b, 0);
    const thick = side > 0 ? sum / side : 0;
    let at = 0;
    for (let i = 0; i < count; ++i) {
      const length = thick > 0 ? line[i] / thick : 0;
      visit(rest[i], w >= h ? { x, y: y + at, w: thick, h: length } : { x: x + at, y, w: length, h: thick });
      at += length;
    }
    if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
    rest = rest.slice(count);
  }
};
const pathOf = (trail) => "/" + trail.slice(1).map((node) => node[0]).join("/");
const cell = (trail, box) => {
  const node = trail[trail.length - 1];
  const element = document.createElement("div");
  element.style.cssText = `left:${box.x}px;top:${box.y}px;width:${box.w}px;height:${box.h}px`;
  element.style.background = color(node[2]);
  if (box.w > 30 && box.h > 14) element.textContent = `${node[0]} ${size(node[1])}`;
  const hint = () => { $("hint").textContent = `${pathOf(trail)}  ${size(node[1])}  layer ${node[2]}`; };
  element.addEventListener("mouseover", hint);
  if (node[3].length > 0) {
    element.className = "inner";
    element.tabIndex = 0;
    element.addEventListener("focus", hint);
    element.addEventListener("click", () => show(trail));
    element.addEventListener("keydown", (event) => { if (event.key === "Enter") show(trail); });
  }
  $("map").append(element);
};
const draw = (trail, box, depth) => {
  place(trail[trail.length - 1][3], box, (node, at) => {
    const next = [...trail, node];
    cell(next, at);
    if (depth > 1 && node[3].length > 0 && at.w > 24 && at.h > 30) {
      draw(next, { x: at.x + 2, y: at.y + 15, w: at.w - 4, h: at.h - 17 }, depth - 1);
    }
  });
};
let shown = [data.files];
function show(trail) {
  shown = trail;
  $("map").replaceChildren();
  $("crumbs").replaceChildren();
  trail.forEach((node, i) => {
    const button = document.createElement("button");
    button.textContent = i === 0 ? "/" : node[0];
    button.addEventListener("click", () => show(trail.slice(0, i + 1)));
    $("crumbs").append(button, i > 0 && i < trail.length - 1 ? "/" : "");
  });
  const map = $("map");
  draw(trail, { x: 0, y: 0, w: map.clientWidth, h: map.clientHeight }, 3);
}
show(shown);
addEventListener("resize", () => show(shown));
</script>
</body>
</html>
)html";

// The files that are seen as a tree, what is small put together.
class FileTree {
public:
    explicit FileTree(const LayersReport& report) : paths_(report.listings.paths) {
        bytes_.resize(paths_.size());
        layer_.resize(paths_.size());
        std::vector<std::uint64_t> largest(paths_.size());
        for (Paths::Id id = static_cast<Paths::Id>(paths_.size()); id-- > 0;) {
            const Entry* entry = report.stack->entry(id);
            if (entry != nullptr && entry->kind == Kind::file) {
                bytes_[id] += entry->size;
                layer_[id] = report.stack->place(id).layer + 1;
                largest[id] = entry->size;
            }
            if (id == Paths::kRoot) break;
            // Children come after their parents. A directory has the colour of its largest file.
            const Paths::Id parent = paths_.parent(id);
            bytes_[parent] += bytes_[id];
            if (largest[id] >= largest[parent]) {
                largest[parent] = largest[id];
                layer_[parent] = layer_[id];
            }
        }
        std::vector<std::uint64_t> sorted(bytes_);
        if (sorted.size() > kMaxNodes) {
            std::nth_element(sorted.begin(), sorted.begin() + kMaxNodes, sorted.end(), std::greater<>());
            least_ = sorted[kMaxNodes] + 1;
        }
    }

    void write(codec::GoJson& json) const { write_node(json, Paths::kRoot, "/"); }

private:
    void write_node(codec::GoJson& json, Paths::Id id, std::string_view name) const {
        json.begin_array().string(name).unsigned_integer(bytes_[id]).unsigned_integer(layer_[id]).begin_array();
        std::vector<Paths::Id> children;
        std::uint64_t small = 0;
        std::uint64_t small_bytes = 0;
        std::uint32_t small_layer = 0;
        for (Paths::Id child = paths_.first_child(id); child != Paths::kNone; child = paths_.next_sibling(child)) {
            if (bytes_[child] == 0) continue;
            if (bytes_[child] >= least_) {
                children.push_back(child);
                continue;
            }
            ++small;
            small_bytes += bytes_[child];
            small_layer = std::max(small_layer, layer_[child]);
        }
        std::ranges::sort(children, [&](Paths::Id a, Paths::Id b) {
            return bytes_[a] != bytes_[b] ? bytes_[a] > bytes_[b] : paths_.name(a) < paths_.name(b);
        });
        for (const Paths::Id child : children) write_node(json, child, paths_.name(child));
        if (small > 0) {
            json.begin_array().string(fmt::format("{} smaller", small)).unsigned_integer(small_bytes);
            json.unsigned_integer(small_layer).begin_array().end_array().end_array();
        }
        json.end_array().end_array();
    }

    const Paths& paths_;
    std::vector<std::uint64_t> bytes_;
    std::vector<std::uint32_t> layer_;
    std::uint64_t least_ = 1;
};

}  // namespace

std::string to_page(const LayersReport& report) {
    codec::GoJson files;
    FileTree(report).write(files);
    std::string page(kHead);
    page += "{\"report\":" + to_json(report) + ",\"files\":" + files.text() + "}";
    page += kTail;
    return page;
}

}  // namespace cooper::inside
