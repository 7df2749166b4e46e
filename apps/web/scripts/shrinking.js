// Draws a picture anew at another size, as JPEG.

const QUALITY = 0.9; // 512 pixels are about 50 KB; the captions of the sample pictures stay the same

/** A JPEG of the shown image with these sides, transparency on white; null where the browser cannot. */
export async function redrawn(image, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const brush = canvas.getContext("2d", { alpha: false });
  if (!brush) return null;
  brush.fillStyle = "#ffffff"; // as the server lays transparent pixels on white
  brush.fillRect(0, 0, width, height);
  brush.imageSmoothingQuality = "high";
  const source = halved(image, width, height);
  brush.drawImage(source, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

/**
 * The image at less than twice the wanted size. Browsers look at four neighbours of a pixel at most when they draw: in
 * one big step thin strokes of text would fall between them.
 */
function halved(image, width, height) {
  let source = image;
  let [sourceWidth, sourceHeight] = [image.naturalWidth, image.naturalHeight];
  while (sourceWidth >= 2 * width && sourceHeight >= 2 * height) {
    sourceWidth = Math.ceil(sourceWidth / 2);
    sourceHeight = Math.ceil(sourceHeight / 2);
    const canvas = document.createElement("canvas");
    canvas.width = sourceWidth;
    canvas.height = sourceHeight;
    const brush = canvas.getContext("2d");
    if (!brush) return image;
    brush.imageSmoothingQuality = "high";
    brush.drawImage(source, 0, 0, sourceWidth, sourceHeight);
    source = canvas;
  }
  return source;
}
