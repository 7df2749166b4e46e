// Holds a chosen picture, and the copy of it that is sent: smaller where the task needs no more.

import { redrawn } from "./shrinking.js";

// What the server decodes (images.py): anything else that the browser can show is sent as JPEG.
const SENT_AS_THEY_ARE = new Set(["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"]);

export class Picture {
  #uploads = new Map();
  #image;

  constructor(blob, name, image) {
    this.blob = blob;
    this.name = name;
    this.url = image?.src ?? "";
    this.width = image?.naturalWidth ?? 0; // upright: browsers apply the EXIF orientation, as the server does
    this.height = image?.naturalHeight ?? 0;
    this.caption = "";
    this.questions = [];
    this.#image = image;
  }

  /** The picture of a file; one that the browser cannot show is still a picture that the server may read. */
  static async open(blob, name) {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    try {
      await image.decode();
      if (image.naturalWidth > 0) return new Picture(blob, name, image);
    } catch {
      // Not a format of this browser, or damaged: the server will say which.
    }
    URL.revokeObjectURL(image.src);
    return new Picture(blob, name, null);
  }

  get isShown() {
    return this.#image !== null;
  }

  /**
   * What to send where `longest` pixels are enough: {blob, name, width, height, way}, with way "original", "shrunk" or
   * "converted". A copy that has more bytes than the file is not sent in its place.
   */
  async uploadFor(longest, wantsOriginal) {
    if (wantsOriginal || !this.isShown) return this.#original();
    if (!this.#uploads.has(longest)) this.#uploads.set(longest, this.#copy(longest));
    return this.#uploads.get(longest);
  }

  /** Gives the memory back; the picture cannot be shown afterwards. */
  release() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.#uploads.clear();
  }

  #original() {
    return { blob: this.blob, name: this.name, width: this.width, height: this.height, way: "original" };
  }

  async #copy(longest) {
    const scale = Math.min(1, longest / Math.max(this.width, this.height));
    const isReadable = SENT_AS_THEY_ARE.has(this.blob.type);
    if (scale === 1 && isReadable) return this.#original();
    const width = Math.max(1, Math.round(this.width * scale));
    const height = Math.max(1, Math.round(this.height * scale));
    const blob = await redrawn(this.#image, width, height);
    if (!blob || (isReadable && blob.size >= this.blob.size)) return this.#original();
    const name = `${this.name.replace(/\.[^.]*$/, "")}.jpg`;
    return { blob, name, width, height, way: scale < 1 ? "shrunk" : "converted" };
  }
}
