"""Where photos are: files, archives, web servers and object stores."""
