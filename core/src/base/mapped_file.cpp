// Maps files through POSIX mmap; CMake picks another file where that does not exist.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <new>
#include <system_error>

namespace mm::base {
namespace {

// A cache line, the widest vector register and the model file's alignment: weights keep it in a copy as in a map.
constexpr std::align_val_t copy_alignment{64};

std::string quoted(const std::string& path) { return "`" + path + "`"; }

// std::strerror shares one buffer between threads; the category's message does not.
std::string reason(int error) { return std::generic_category().message(error); }

Status open_failure(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    return not_found("file " + quoted(path) + " does not exist (" + reason(error) + ")", "check the path");
  }
  return invalid_input("file " + quoted(path) + " cannot be read (" + reason(error) + ")",
                       "check that this user may read it");
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: a named pipe would otherwise wait for its writer before fstat can refuse it.
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return open_failure(path, errno);

  struct stat info = {};
  Status failure;
  void* mapped = MAP_FAILED;
  size_t size = 0;
  if (::fstat(descriptor, &info) != 0) {
    failure = open_failure(path, errno);
  } else if (S_ISDIR(info.st_mode)) {
    failure = not_found(quoted(path) + " is a folder, expected a file (" + reason(EISDIR) + ")",
                        "give the path of the file itself");
  } else if (!S_ISREG(info.st_mode)) {
    failure = not_found(quoted(path) + " is a device or pipe, expected a regular file", "copy it to a file first");
  } else if (info.st_size <= 0) {
    failure = invalid_input("file " + quoted(path) + " is empty (0 bytes)", "download or build it again");
  } else if (static_cast<uint64_t>(info.st_size) > std::numeric_limits<size_t>::max() / 2) {
    failure = invalid_input("file " + quoted(path) + " has " + std::to_string(info.st_size) +
                            " bytes, more than this machine can address");
  } else {
    size = static_cast<size_t>(info.st_size);
    mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapped == MAP_FAILED) {
      const int error = errno;
      failure = error == ENOMEM
                    ? Status(StatusCode::out_of_memory, "file " + quoted(path) + " of " + std::to_string(size) +
                                                            " bytes cannot be mapped (" + reason(error) + ")")
                    : open_failure(path, error);
    }
  }
  ::close(descriptor);  // the map outlives its descriptor
  if (!failure.is_ok()) return failure;

  std::shared_ptr<MappedFile> file(new (std::nothrow) MappedFile());
  if (!file) {
    ::munmap(mapped, size);
    return Status(StatusCode::out_of_memory, "no memory left to open " + quoted(path));
  }
  file->data_ = static_cast<const uint8_t*>(mapped);
  file->size_ = size;
  file->is_mapped_ = true;
  return std::shared_ptr<const MappedFile>(std::move(file));
}

Result<std::shared_ptr<const MappedFile>> MappedFile::from_bytes(const void* bytes, size_t size) {
  if (bytes == nullptr || size == 0) return invalid_input("the given bytes are empty (0 bytes)");
  void* copy = ::operator new(size, copy_alignment, std::nothrow);
  std::shared_ptr<MappedFile> file(copy == nullptr ? nullptr : new (std::nothrow) MappedFile());
  if (!file) {
    ::operator delete(copy, copy_alignment);
    return Status(StatusCode::out_of_memory, "no memory left for a copy of " + std::to_string(size) + " bytes");
  }
  std::memcpy(copy, bytes, size);
  file->data_ = static_cast<const uint8_t*>(copy);
  file->size_ = size;
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  void* memory = const_cast<uint8_t*>(data_);
  if (is_mapped_) {
    ::munmap(memory, size_);
  } else {
    ::operator delete(memory, copy_alignment);
  }
}

}  // namespace mm::base
