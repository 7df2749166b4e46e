/* Captions a PPM picture (P6, 8 bits) with the C door: `caption_ppm MODEL.gguf PICTURE.ppm [THREADS [REPEATS]]`. */
#include <mobile_multimodal/mobile_multimodal.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, mm_last_error());
  if (mm_last_hint()[0] != '\0') fprintf(stderr, "hint: %s\n", mm_last_hint());
  return 1;
}

/* Reads a whole picture; NULL when it is none. */
static uint8_t* read_ppm(const char* path, int* height, int* width) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) return NULL;
  int most = 0;
  uint8_t* pixels = NULL;
  if (fscanf(file, "P6 %d %d %d", width, height, &most) == 3 && most == 255 && fgetc(file) != EOF && *width > 0 &&
      *height > 0 && *width <= 16384 && *height <= 16384) {
    const size_t bytes = (size_t)*width * (size_t)*height * 3;
    pixels = malloc(bytes);
    if (pixels != NULL && fread(pixels, 1, bytes, file) != bytes) {
      free(pixels);
      pixels = NULL;
    }
  }
  fclose(file);
  return pixels;
}

int main(int count, char** arguments) {
  if (count < 3 || count > 5) {
    fprintf(stderr, "usage: caption_ppm MODEL.gguf PICTURE.ppm [THREADS [REPEATS]]\n");
    return 2;
  }
  mm_picture picture = {NULL, 0, 0, 3, 0};
  uint8_t* pixels = read_ppm(arguments[2], &picture.height, &picture.width);
  picture.pixels = pixels;
  if (pixels == NULL) {
    fprintf(stderr, "%s: not a P6 PPM picture of 8 bits\n", arguments[2]);
    return 1;
  }
  mm_engine* engine = NULL;
  mm_session* session = NULL;
  int code = 0;
  if (mm_engine_open(arguments[1], &engine) != MM_OK) code = fail(arguments[1]);
  if (code == 0 && mm_session_create(engine, count > 3 ? atoi(arguments[3]) : 0, &session) != MM_OK)
    code = fail("session");
  const int repeats = count > 4 ? atoi(arguments[4]) : 1;
  for (int i = 0; code == 0 && i < repeats; ++i) {
    mm_caption* caption = NULL;
    if (mm_caption_picture(session, &picture, NULL, &caption) != MM_OK)
      code = fail(arguments[2]);
    else
      printf("%s\t%.3f\t%.2f ms\n", mm_caption_text(caption), (double)mm_caption_confidence(caption),
             mm_caption_milliseconds(caption));
    mm_caption_free(caption);
  }
  mm_session_close(session);
  mm_engine_close(engine);
  free(pixels);
  return code;
}
