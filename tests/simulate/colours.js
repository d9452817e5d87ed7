// How many pixels a picture has of each colour, for pictures in base64.
(async (picture) => {
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
  const canvas = new OffscreenCanvas(image.width, image.height);
  const paper = canvas.getContext('2d');
  paper.drawImage(image, 0, 0);
  const pixels = paper.getImageData(0, 0, image.width, image.height).data;
  const counts = {};
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = `rgb(${pixels[at]}, ${pixels[at + 1]}, ${pixels[at + 2]})`;
    counts[colour] = (counts[colour] || 0) + 1;
  }
  return counts;
})
