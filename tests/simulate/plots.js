// What a reader sees of a page: its plots with their marks and texts. Lengths are in pixels of the page.
(() => {
  const box = (rect) => ({
    x: rect.x + scrollX, y: rect.y + scrollY, width: rect.width, height: rect.height,
  });
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = channels(colour).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const canvas = getComputedStyle(document.body).backgroundColor;
  // by the definition of WCAG 2.2
  const contrast = (colour) => {
    const [a, b] = [luminance(colour), luminance(canvas)].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  const plot = (svg) => {
    const figure = svg.closest('figure');
    let key = figure.previousElementSibling;
    let heading = figure;
    while (heading && heading.tagName !== 'H2') heading = heading.previousElementSibling;
    if (!key.classList.contains('key')) key = null;
    const area = svg.querySelector('.area');
    const marks = [...svg.querySelectorAll('path, polyline, polygon')].map((mark) => {
      const style = getComputedStyle(mark);
      const line = style.fill === 'none';
      const colour = line ? style.stroke : style.fill;
      return { box: box(mark.getBoundingClientRect()), colour, line, contrast: contrast(colour) };
    });
    const texts = [...svg.querySelectorAll('text')].map((text) => ({
      text: text.textContent, box: box(text.getBoundingClientRect()),
    }));
    const swatches = key ? [...key.querySelectorAll('i')] : [];
    return {
      title: heading ? heading.textContent : '',
      label: svg.getAttribute('aria-label') || '',
      box: box(svg.getBoundingClientRect()),
      area: area && box(area.getBoundingClientRect()),
      key: swatches.map((swatch) => getComputedStyle(swatch).backgroundColor),
      marks, texts,
    };
  };
  const words = [...document.querySelectorAll('h1, h2, p, li, td, th, span, text')].map((at) => {
    const style = getComputedStyle(at);
    const colour = at.tagName === 'text' ? style.fill : style.color;
    return { text: at.textContent.slice(0, 40), contrast: contrast(colour) };
  });
  return {
    width: document.documentElement.scrollWidth, view: innerWidth, canvas,
    plots: [...document.querySelectorAll('svg')].map(plot), words,
  };
})()
