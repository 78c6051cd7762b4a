// A folder whose files are in memory, for code that opens files by name.
#ifndef SKIM_FUZZ_FOLDER_H
#define SKIM_FUZZ_FOLDER_H

#include <stddef.h>

// The folder's path; the first call makes it, and the program's end removes it.
const char *folder_path(void);

// Makes the file have this content. data NULL: there is no such file.
void folder_put(const char *name, const void *data, size_t size);

#endif
