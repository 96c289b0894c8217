"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const $ = (id) => document.getElementById(id);
  const grid = [...document.querySelectorAll(".players video")];
  const stage = [...document.querySelectorAll(".stage video")];
  const videos = [...grid, ...stage];
  const { rate, frames, chunks } = facts;
  const starts = chunks.map((_, i) => chunks.slice(0, i).reduce((sum, count) => sum + count, 0));
  let frame = 0, playing = false, began = 0, from = 0;

  const chunkOf = (at) => starts.findLastIndex((start) => start <= at);
  const middle = (at) => (at + 0.5) / rate;

  // One clock moves every video: each is sought to the middle of the frame the clock is at, so none can run ahead.
  const seek = (video, at) => {
    const last = Math.round((video.duration || Infinity) * rate) - 1;
    const wanted = middle(Math.min(at, Number.isFinite(last) ? last : at));
    if (Math.abs(video.currentTime - wanted) > 0.25 / rate) video.currentTime = wanted;
  };

  const show = (at) => {
    frame = Math.max(0, Math.min(frames - 1, at));
    const visible = videos.filter((video) => video.offsetParent !== null);
    visible.forEach((video) => seek(video, frame));
    $("scrub").value = frame;
    const chunk = chunkOf(frame);
    const text = `frame ${frame + 1} of ${frames}, ${(frame / rate).toFixed(2)} s, chunk ${chunk}`;
    $("place").textContent = text;
    $("scrub").setAttribute("aria-valuetext", text);
    document.querySelectorAll("circle.now").forEach((dot) => dot.classList.remove("now"));
    document.querySelectorAll(`circle[data-chunk="${chunk}"]`).forEach((dot) => dot.classList.add("now"));
  };

  const settled = () => videos.every((video) => video.offsetParent === null || !video.seeking);
  const tick = (now) => {
    if (!playing) return;
    const speed = Number($("speed").value);
    const at = (from + Math.floor(((now - began) / 1000) * rate * speed)) % frames;
    if (at !== frame && settled()) show(at);
    requestAnimationFrame(tick);
  };
  const play = (on) => {
    playing = on;
    $("play").textContent = on ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", String(on));
    if (on) { began = performance.now(); from = frame === frames - 1 ? 0 : frame; requestAnimationFrame(tick); }
  };
  const step = (to) => { play(false); show(to); };
  const stepChunk = (by) => {
    const now = chunkOf(frame);
    step(by < 0 && frame > starts[now] ? starts[now] : starts[Math.max(0, Math.min(chunks.length - 1, now + by))]);
  };

  $("play").onclick = () => play(!playing);
  $("back").onclick = () => step(frame - 1);
  $("on").onclick = () => step(frame + 1);
  $("chunk-back").onclick = () => stepChunk(-1);
  $("chunk-on").onclick = () => stepChunk(1);
  $("speed").onchange = () => { if (playing) play(true); };
  $("scrub").oninput = (event) => step(Number(event.target.value));
  $("size").onclick = (event) => {
    const wide = document.querySelector(".players").classList.toggle("wide");
    event.target.setAttribute("aria-pressed", String(wide));
  };
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea, button, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = { " ": () => play(!playing), ArrowLeft: () => step(frame - 1), ArrowRight: () => step(frame + 1),
      "[": () => stepChunk(-1), "]": () => stepChunk(1), Home: () => step(0), End: () => step(frames - 1) };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  // --- A/B wipe
  if (stage.length) {
    const box = document.querySelector(".stage");
    const put = (percent) => {
      const at = Math.max(0, Math.min(100, percent));
      box.style.setProperty("--at", `${at}%`);
      $("wipe-at").value = at;
    };
    const choose = (i) => { stage[i].src = grid[Number($(`wipe-${"ab"[i]}`).value)].currentSrc || grid[Number($(`wipe-${"ab"[i]}`).value)].src; };
    [0, 1].forEach((i) => {
      $(`wipe-${"ab"[i]}`).onchange = () => choose(i);
      stage[i].addEventListener("loadeddata", () => seek(stage[i], frame));
      choose(i);
    });
    $("wipe-at").oninput = (event) => put(Number(event.target.value));
    const drag = (event) => { const r = box.getBoundingClientRect(); put(((event.clientX - r.left) / r.width) * 100); };
    box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); drag(event); });
    box.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    put(50);
  }

  // --- tables sort by the column whose head is pressed
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => {
      head.querySelector("button").onclick = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const key = (row) => row.cells[column].dataset.value ?? "";
        const compare = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");  // what was not measured stands last either way
          const order = column === 0 ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y);
          return up ? order : -order;
        };
        [...body.rows].sort(compare).forEach((row) => body.append(row));
      };
    });
  });

  Promise.all(grid.map((video) => video.readyState >= 2 ? null : new Promise((ready) => {
    video.addEventListener("loadeddata", ready, { once: true });
    video.addEventListener("error", ready, { once: true });
  }))).then(() => { show(0); document.body.dataset.ready = "true"; });
})();
