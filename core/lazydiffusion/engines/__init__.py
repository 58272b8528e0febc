"""What turns an edit into fills; one file for each way, behind one small protocol."""
