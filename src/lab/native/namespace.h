/* Entering the network namespace a path names, for tools that live entirely inside of it. */
#ifndef SHOAL_LAB_NAMESPACE_H
#define SHOAL_LAB_NAMESPACE_H

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

/* 0, or -1 with errno set. */
static inline int enter_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result;

	if (fd < 0)
		return -1;
	result = setns(fd, CLONE_NEWNET);
	close(fd);
	return result;
}

#endif
