// The worst contrasts of text with what it stands on, as the browser computed them: what
// axe-core's rule color-contrast looks for.
(() => {
  const rgba = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
      if (c[3] > 0) return null; // half transparent: cannot be told
    }
    return [255, 255, 255];
  };
  const bad = [];
  let looked = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({ contentVisibilityAuto: false }) || e.closest(".hidden, .skip, script")) continue;
    const style = getComputedStyle(e);
    const drawn = e.closest("svg") !== null;
    const front = rgba(drawn ? style.fill : style.color);
    const back = ground(drawn ? e.closest("svg").parentElement : e);
    if (!back) { bad.push(`${e.tagName}.${e.className}: ${walk.currentNode.data}: what it stands on is half transparent`); continue; }
    const [x, y] = [light(front), light(back)];
    const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    looked++;
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)}:1 ${e.tagName}.${e.className}: ${walk.currentNode.data.trim().slice(0, 60)}`);
  }
  if (looked < 5) bad.push(`only ${looked} texts were looked at`);
  return bad;
})()
